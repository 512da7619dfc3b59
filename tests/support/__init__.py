"""What the tests stand on: a far side that can be scripted, and the checks of the contract. No product code, no tests."""
