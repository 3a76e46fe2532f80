"""Asks for the driver where there is none."""

import sys

from warpspan.device import discovery

driver = discovery.open_driver()
driver.open()
print(driver.problem)
print("pynvml" in sys.modules)
