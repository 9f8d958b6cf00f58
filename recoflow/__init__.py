"""recoflow: self-hosted batch recommendations."""
