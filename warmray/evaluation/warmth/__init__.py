"""The warmth meters: SocioT and the linear probe."""
