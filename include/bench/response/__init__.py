"""How far the shipped profiles respond: assumed attackers and honest people through the whole decision."""
