// TinyGuest
