package schedule

import (
	"slices"
	"time"
)

const (
	// newsEvery is the least time between two tellings: pieces that come together are told together.
	newsEvery = 60 * time.Millisecond
	// newsWait is how long news may wait for another message that takes them along, where they change little.
	newsWait = 500 * time.Millisecond
)

// News are the pieces that one neighbour is to be told that we have, or have the beginning of. One that lacks nothing of ours, as far as it knows, is told at once: it may want them.
// One that wants us is told with the next message to it, before every credit at the latest, and waits for that a little: it chooses well all
// the same, and half of all messages would be news otherwise. That a piece is whole that was told to have begun changes little, too.
type News struct {
	pieces []uint32
	begun  []uint32
	lost   []uint32
	open   []uint32      // pieces that were told to have begun, and not to be whole
	due    time.Duration // when they are to be told; only if there are some
	told   time.Duration // when the last were
	spoken bool          // there were any
	late   bool          // of those that wait none is urgent
}

// Add takes in a piece that we have now. Want is how much the neighbour wants us.
func (n *News) Add(now time.Duration, piece uint32, want Want) {
	known, waits := slices.Contains(n.open, piece), slices.Contains(n.begun, piece)
	n.lost, n.open, n.begun = without(n.lost, piece), without(n.open, piece), without(n.begun, piece)
	switch {
	case waits: // it is due when that was
	case !known:
		n.add(now, want)
	case n.none():
		n.due, n.late = now+newsWait, true
	}
	n.pieces = append(n.pieces, piece)
}

// Begun takes in a piece of which we have the beginning.
func (n *News) Begun(now time.Duration, piece uint32, want Want) {
	switch {
	case slices.Contains(n.begun, piece), slices.Contains(n.pieces, piece):
	case slices.Contains(n.open, piece): // it knows
	default:
		n.add(now, want)
		n.begun = append(n.begun, piece)
	}
}

func (n *News) add(now time.Duration, want Want) {
	due := now
	if n.spoken {
		due += newsWait
	}
	if n.none() || due < n.due {
		n.due = due
	}
	n.spoken, n.late = true, false
	n.Wanted(now, want)
}

// Lost takes in that a piece does not come any more of which we have the beginning.
func (n *News) Lost(now time.Duration, piece uint32) {
	n.begun = without(n.begun, piece)
	if slices.Contains(n.open, piece) {
		n.open = without(n.open, piece)
		n.add(now, WantNot)
		n.lost = append(n.lost, piece)
	}
}

func (n *News) none() bool { return len(n.pieces)+len(n.begun)+len(n.lost) == 0 }

// Wanted says that a neighbour has said how much it wants us.
func (n *News) Wanted(now time.Duration, want Want) {
	if want == WantNot && !n.late {
		n.due = min(n.due, max(now, n.told+newsEvery))
	}
}

// Spoken says whether there were any news.
func (n *News) Spoken() bool { return n.spoken }

// Due returns when the news are to be told; ok is false while there are none.
func (n *News) Due() (at time.Duration, ok bool) { return n.due, !n.none() }

// Told are news, to be told in this order. They are valid until there are others.
type Told struct {
	Whole, Lost, Begun []uint32
}

// Take returns the news, which count as told now.
func (n *News) Take(now time.Duration) Told {
	if n.none() {
		return Told{}
	}
	n.told = now
	n.open = append(n.open, n.begun...)
	t := Told{n.pieces, n.lost, n.begun}
	n.pieces, n.lost, n.begun, n.late = n.pieces[:0], n.lost[:0], n.begun[:0], false
	return t
}
