package daemon

import (
	"sync"
	"time"
)

// saver writes the list in a goroutine of its own, always the newest one.
type saver struct {
	wake  chan struct{} // holds one
	dirty bool          // there are changes that nobody waits for; the loop's
	at    time.Time     // of the last write that was begun; the loop's

	mu      sync.Mutex // guards what follows
	pending *list
	waiting []chan error
}

// write has the list written as it is now. Wait, if there is one, is told when it is kept.
func (e *Engine) write(wait chan error) {
	l := list{Limits: e.byHand, Transfers: make([]Record, 0, len(e.transfers))}
	for _, t := range e.transfers {
		l.Transfers = append(l.Transfers, t.Record)
	}
	e.saver.dirty, e.saver.at = false, time.Now()
	e.saver.mu.Lock()
	e.saver.pending = &l
	if wait != nil {
		e.saver.waiting = append(e.saver.waiting, wait)
	}
	e.saver.mu.Unlock()
	select {
	case e.saver.wake <- struct{}{}:
	default:
	}
}

// save writes until the engine ends.
func (e *Engine) save() {
	for range e.saver.wake {
		e.saver.mu.Lock()
		l, waiting := e.saver.pending, e.saver.waiting
		e.saver.pending, e.saver.waiting = nil, nil
		e.saver.mu.Unlock()
		if l == nil {
			continue
		}
		err := l.store(e.cfg.Dir)
		if err != nil {
			e.cfg.Log.Error("cannot keep the list of transfers", "err", err)
		}
		for _, w := range waiting {
			w <- err
		}
	}
}
