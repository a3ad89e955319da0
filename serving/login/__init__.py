"""People log in with the account they have: SMART App Launch and OpenID Connect, as a client; and sessions of browsers."""
