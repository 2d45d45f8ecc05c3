"""What leaves the machine: a policy that acts without this package, and a folder that a model hub takes."""
