"""What the tests of the bridges share."""

from nplp import host

# Before the test modules, which import the toolbox at their top.
host.apply()
