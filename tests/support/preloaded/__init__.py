"""Start Python programs fast: slow packages are already imported."""

from tests.support.preloaded.start import Popen as Popen
from tests.support.preloaded.start import run as run
