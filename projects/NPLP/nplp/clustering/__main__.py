"""The command `python -m nplp.clustering`; it lives in `nplp.cluster_command`, above this package."""

from nplp.cluster_command import main

if __name__ == "__main__":
    main()
