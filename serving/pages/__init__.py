"""Pages for people: the ward, a patient, and operations. The server renders them; their scripts only keep them current."""
