"""Images rated by people: their opinions as published, datasets of them, and splits that share no scene."""
