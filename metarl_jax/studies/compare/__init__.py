"""Methods beside each other at equal environment steps: what is compared, what is measured of it, what it comes to."""
