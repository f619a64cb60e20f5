package peer

import "sync"

const (
	largeBuffer = 1 << 20   // the cheapest size measured, for reading from disk and writing to a socket
	smallBuffer = 128 << 10 // when many are served at once
	maxLarge    = 32        // large buffers in use at once
)

// Buffers lends the memory through which files are served: few large buffers, small ones for all others.
type Buffers struct {
	large, small sync.Pool
	tokens       chan struct{}
}

// NewBuffers makes a lender that owns nothing yet.
func NewBuffers() *Buffers { return &Buffers{tokens: make(chan struct{}, maxLarge)} }

// get lends a buffer until the returned function is called.
func (b *Buffers) get() (buf []byte, giveBack func()) {
	select {
	case b.tokens <- struct{}{}:
		p, _ := b.large.Get().(*[]byte)
		if p == nil {
			p = new(make([]byte, largeBuffer))
		}
		return *p, func() { b.large.Put(p); <-b.tokens }
	default:
		p, _ := b.small.Get().(*[]byte)
		if p == nil {
			p = new(make([]byte, smallBuffer))
		}
		return *p, func() { b.small.Put(p) }
	}
}
