"""Asks for the driver where there is none."""

import sys

from warpspan.device import none

driver = none.driver()
driver.open()
print(driver.problem)
print("pynvml" in sys.modules)
