#!/usr/bin/env python
"""Django's command line. ``seo-gen <noun> <verb>`` is the same as ``manage.py <noun>_<verb>``."""

import sys

from config.cli import manage

if __name__ == "__main__":
    sys.exit(manage(sys.argv))
