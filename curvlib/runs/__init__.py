"""Runs: settings, training, scoring, networks, and what a second training gives."""
