"""Decision: ages, rotations, revocation; the sources and memories they rest on."""
