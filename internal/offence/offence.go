// Package offence keeps the book of what strangers did wrong: how often, by reason, and a log of it that they cannot
// flood. It decides nothing: whoever notes an offence has already closed the connection, or will.
package offence

import (
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Quiet is how long the log keeps silent about a reason after a line about it.
const Quiet = 5 * time.Second

// Book counts offences by reason. All methods may be called at once from any goroutine.
type Book struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	reasons map[string]*page
}

type page struct {
	count  uint64
	unsaid uint64    // since the last line in the log
	said   time.Time // when that was
}

// NewBook makes an empty book that logs to log.
func NewBook(log *slog.Logger) *Book {
	return &Book{log: log, reasons: make(map[string]*page)}
}

// Note counts one offence and logs it, unless the same reason was logged within [Quiet]: the next line then tells how
// many were left out. Reasons are a few constants of the caller's, never text from outside.
func (b *Book) Note(reason, from string, err error) {
	now := time.Now()
	b.mu.Lock()
	p := b.reasons[reason]
	if p == nil {
		p = &page{}
		b.reasons[reason] = p
	}
	p.count++
	p.unsaid++
	unsaid, loud := p.unsaid, now.Sub(p.said) >= Quiet
	if loud {
		p.unsaid, p.said = 0, now
	}
	total := p.count
	b.mu.Unlock()
	if loud {
		b.log.Warn("refused", "reason", reason, "peer", from, "err", err, "more", unsaid-1, "total", total)
	}
}

// Counts returns how many offences there were, by reason.
func (b *Book) Counts() map[string]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[string]uint64, len(b.reasons))
	for reason, p := range maps.All(b.reasons) {
		out[reason] = p.count
	}
	return out
}
