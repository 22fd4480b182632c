"""Files of users: recognized, listed, decoded and checked."""
