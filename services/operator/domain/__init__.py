"""What the operator decides, as pure functions of what is wished and what is seen."""
