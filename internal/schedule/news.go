package schedule

import "time"

const (
	// newsEvery is the least time between two tellings: pieces that come together are told together.
	newsEvery = 60 * time.Millisecond
	// newsWait is how long news may wait for another message that takes them along, where they change little.
	newsWait = 500 * time.Millisecond
)

// News are the pieces that one neighbour is to be told that we have. One that lacks nothing of ours, as far as it knows, is told at once: it may want them.
// One that wants us is told with the next message to it, before every credit at the latest, and waits for that a little: it chooses well all
// the same, and half of all messages would be news otherwise.
type News struct {
	pieces []uint32
	due    time.Duration // when they are to be told; only if there are some
	told   time.Duration // when the last were
	begun  bool          // there were any
}

// Add takes in a piece that we have now. Want is how much the neighbour wants us.
func (n *News) Add(now time.Duration, piece uint32, want Want) {
	if len(n.pieces) == 0 {
		n.due = now
		if n.begun {
			n.due += newsWait
		}
	}
	n.begun = true
	n.pieces = append(n.pieces, piece)
	n.Wanted(now, want)
}

// Wanted says that a neighbour has said how much it wants us.
func (n *News) Wanted(now time.Duration, want Want) {
	if want == WantNot {
		n.due = min(n.due, max(now, n.told+newsEvery))
	}
}

// Due returns when the news are to be told; ok is false while there are none.
func (n *News) Due() (at time.Duration, ok bool) { return n.due, len(n.pieces) > 0 }

// Take returns the news, which count as told now. They are valid until the next call of Add.
func (n *News) Take(now time.Duration) []uint32 {
	if len(n.pieces) > 0 {
		n.told = now
	}
	p := n.pieces
	n.pieces = n.pieces[:0]
	return p
}
