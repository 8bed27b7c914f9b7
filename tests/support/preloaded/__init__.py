"""Python programs that start fast, because slow packages are imported already."""

from tests.support.preloaded.start import Popen as Popen
from tests.support.preloaded.start import run as run
