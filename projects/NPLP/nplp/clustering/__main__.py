"""The command `python -m nplp.clustering`: `nplp_commands.cluster`."""

from nplp_commands.cluster import main

if __name__ == "__main__":
    main()
