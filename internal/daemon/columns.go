package daemon

// maxColumns bounds what is sent of a content's pieces, however many there are.
const maxColumns = 2048

// Pieces is which part of a content is here, column by column.
type Pieces struct {
	Count   int      `json:"count"`   // pieces
	Size    int64    `json:"size"`    // bytes of one, the last may be shorter
	Columns int      `json:"columns"` // at most 2,048; column c is the pieces from c*count/columns to (c+1)*count/columns
	Have    [][2]int `json:"have"`    // runs: how many columns, and how many percent of their pieces are here
}

// columns aggregates pieces. A column is at 0 or 100 percent only if none or all of its pieces are here.
func columns(have []bool, size int64) Pieces {
	p := Pieces{Count: len(have), Size: size, Columns: min(len(have), maxColumns), Have: [][2]int{}}
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
		p.append(percent)
	}
	return p
}

func (p *Pieces) append(percent int) {
	if n := len(p.Have); n > 0 && p.Have[n-1][1] == percent {
		p.Have[n-1][0]++
		return
	}
	p.Have = append(p.Have, [2]int{1, percent})
}

// whole is a content of which all is here.
func whole(count int, size int64) Pieces {
	p := Pieces{Count: count, Size: size, Columns: min(count, maxColumns), Have: [][2]int{}}
	if p.Columns > 0 {
		p.Have = [][2]int{{p.Columns, 100}}
	}
	return p
}
