package peer

import "encoding/binary"

const (
	// recordHead is the length of the header of a TLS record; its last two bytes are the length of the rest.
	recordHead = 5
	// recordOver is what a TLS 1.3 record takes at least beyond its header and its content: the kind, and the tag.
	recordOver = 17
	// minAwait is from how many bytes on it pays to be woken once for all of them.
	minAwait = 4 << 10
	// maxAwait bounds for how many bytes one waits: a little less than the receive buffers that systems begin with.
	maxAwait = 64 << 10
)

// records follows the records of a TLS stream, to know how many bytes at least must come before what a reader expects is complete. A
// reader that is woken for every packet of a record, and of a frame, does nothing with all but the last.
type records struct {
	head   [recordHead]byte
	got    int // bytes of head
	left   int // bytes of the record's rest that have not come
	length int // of the rest
	expect int // bytes of content that the reader needs
}

// pass takes in bytes of the stream.
func (r *records) pass(b []byte) {
	for len(b) > 0 {
		if r.left > 0 {
			n := min(r.left, len(b))
			r.left -= n
			b = b[n:]
			continue
		}
		n := copy(r.head[r.got:], b)
		r.got += n
		b = b[n:]
		if r.got == recordHead {
			r.got, r.length = 0, int(binary.BigEndian.Uint16(r.head[3:]))
			r.left = r.length
		}
	}
}

// await returns for how many bytes to wait: never for more than must come.
func (r *records) await() int {
	n := r.expect
	if r.left > 0 {
		n = r.left + max(0, r.expect-(r.length-recordOver))
	}
	if n < minAwait {
		return 1
	}
	return min(n, maxAwait)
}
