"""Bodies of Brax and MuJoCo, with hidden goals or under new physics."""
