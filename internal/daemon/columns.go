package daemon

// maxColumns bounds what is sent of a content's pieces, however many there are.
const maxColumns = 2048

// Pieces is which part of a content is here, column by column.
type Pieces struct {
	Count   int      `json:"count"`   // pieces
	Size    int64    `json:"size"`    // bytes of one, the last may be shorter
	Columns int      `json:"columns"` // at most 2,048; column c is the pieces from c*count/columns to (c+1)*count/columns
	Have    [][2]int `json:"have"`    // runs: how many columns, and how many percent of their pieces are here
	Under   [][2]int `json:"under"`   // runs: how many columns, and how many of their pieces are under way
	Rarest  [][2]int `json:"rarest"`  // runs: how many columns, and how many neighbours have their rarest missing piece; -1: none is missing; empty: it is not fetched
}

// columns aggregates pieces. A column is at 0 or 100 percent only if none or all of its pieces are here.
func columns(have []bool, size int64) Pieces {
	p := Pieces{Count: len(have), Size: size, Columns: min(len(have), maxColumns), Have: [][2]int{}, Under: [][2]int{}, Rarest: [][2]int{}}
	for c := range p.Columns {
		from, to := c*len(have)/p.Columns, (c+1)*len(have)/p.Columns
		n := 0
		for _, is := range have[from:to] {
			if is {
				n++
			}
		}
		percent := n * 100 / (to - from)
		if n > 0 && percent == 0 {
			percent = 1
		}
		p.Have = lengthen(p.Have, percent)
	}
	return p
}

// lengthen adds a column to runs.
func lengthen(runs [][2]int, value int) [][2]int {
	if n := len(runs); n > 0 && runs[n-1][1] == value {
		runs[n-1][0]++
		return runs
	}
	return append(runs, [2]int{1, value})
}

// runsOf are the runs of what is said of each column.
func runsOf(each []int) [][2]int {
	runs := [][2]int{}
	for _, v := range each {
		runs = lengthen(runs, v)
	}
	return runs
}

// under adds which pieces are under way.
func (p *Pieces) under(pieces []uint32) {
	each := make([]int, p.Columns)
	for _, piece := range pieces {
		if int(piece) >= p.Count {
			continue
		}
		c := int(piece) * p.Columns / p.Count
		for (c+1)*p.Count/p.Columns <= int(piece) {
			c++
		}
		each[c]++
	}
	p.Under = runsOf(each)
}

// whole is a content of which all is here.
func whole(count int, size int64) Pieces {
	p := Pieces{Count: count, Size: size, Columns: min(count, maxColumns), Have: [][2]int{}, Under: [][2]int{}, Rarest: [][2]int{}}
	if p.Columns > 0 {
		p.Have = [][2]int{{p.Columns, 100}}
	}
	return p
}
