package exchange

import (
	"time"

	"shoal/internal/content"
)

const (
	// workBurst and workRate bound what a neighbour may make the loop do again, in pieces at once and per second. A few bytes can
	// mean a look at every piece: what is said for the first time is free, and an honest neighbour says nothing else.
	workBurst = 16 * content.MaxPieces
	workRate  = content.MaxPieces
)

// work is what a neighbour has left of that.
type work struct {
	used int64
	at   time.Duration
}

// charge takes a number of pieces, and says whether that was too much.
func (w *work) charge(now time.Duration, pieces int64) (tooMuch bool) {
	w.used = max(0, w.used-int64((now-w.at).Seconds()*workRate)) + pieces
	w.at = now
	return w.used > workBurst
}

// again charges a neighbour for a look at so many pieces, and ends its session if that was too much.
func (l *loop) again(n *conn, pieces int64) {
	if n.work.charge(l.now(), pieces) {
		n.stop(offence(OffenceFlood, "it says the same again and again"))
	}
}

// pieces returns how many pieces a content has, as far as that is known.
func (c *exchanged) pieces() int64 {
	if c.Manifest == nil {
		return 0
	}
	return int64(c.Manifest.Geo.Pieces)
}
