"""How fast news spreads among simulated nodes that speak the real protocol."""
