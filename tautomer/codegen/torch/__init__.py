"""Libraries that torch loads through its stable interface."""
