package access

// Compare has passwords compared with hashes by another function.
func (g *Guard) Compare(by func(hash, password []byte) error) { g.passwords.compare = by }
