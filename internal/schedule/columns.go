package schedule

// Rarest says of each of so many columns of pieces how many neighbours have the missing piece of it that the fewest have; -1: none is missing.
// Column c is the pieces from c*pieces/columns to (c+1)*pieces/columns.
func (t *Taker) Rarest(columns int) []int {
	all := 0
	for _, g := range t.peers {
		if g != nil && g.all {
			all++
		}
	}
	pieces := int(t.cfg.Pieces)
	out := make([]int, min(columns, pieces))
	for c := range out {
		out[c] = -1
		for p := uint32(c * pieces / len(out)); p < uint32((c+1)*pieces/len(out)); p++ {
			if n := all + int(t.pickable.level[p]); t.missing.has(p) && (out[c] < 0 || n < out[c]) {
				out[c] = n
			}
		}
	}
	return out
}
