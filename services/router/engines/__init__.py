"""Orchestration: follows the deployer, keeps the rules, brings tables to batchers and gateways in order."""
