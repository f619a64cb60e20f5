package main

import (
	"fmt"
	"time"

	"shoal/internal/history"
	"shoal/internal/node"
)

// track tells shoal status, which is another process, of a transfer of this one. That it cannot is no reason to stop the transfer.
type track struct {
	done, ended chan struct{}
}

// newTrack tells of a transfer every second, until its end. Read says what is to be told; what it says at the end is kept, if keep is true then.
func newTrack(e *env, read func(ended bool) (rec history.Record, keep bool)) *track {
	t := &track{done: make(chan struct{}), ended: make(chan struct{})}
	began := time.Now()
	now := func(ended bool) (history.Record, bool) {
		rec, keep := read(ended)
		rec.Began, rec.Seconds = began, time.Since(began).Seconds()
		return rec, keep
	}
	go func() { // ends with end
		defer close(t.ended)
		log := e.log(12)
		rec, _ := now(false)
		run, err := history.In(e.state).Start(rec)
		if err != nil {
			log.Debug("cannot tell of the transfer", "err", err)
			if run == nil {
				return
			}
		}
		timer := time.NewTimer(history.Every)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
				rec, _ := now(false)
				wait := history.Every
				if run.Same(rec) {
					wait = history.Still
				}
				err = run.Update(rec)
				timer.Reset(wait)
			case <-t.done:
				rec, keep := now(true)
				last := &rec
				if !keep {
					last = nil
				}
				if err := run.End(last); err != nil {
					log.Debug("cannot keep the transfer", "err", err)
				}
				return
			}
			if err != nil {
				log.Debug("cannot tell of the transfer", "err", err)
			}
		}
	}()
	return t
}

func (t *track) end() { close(t.done); <-t.ended }

// trackFetch tells of a fetch; one that is complete is kept.
func trackFetch(e *env, f *node.Fetch) *track {
	began := time.Now()
	return newTrack(e, func(bool) (history.Record, bool) {
		st := f.Status()
		p := st.Exchange
		rec := history.Record{
			Kind: history.Get, Name: st.Name, Size: st.Size, Done: p.Done, Fetched: p.Received, Sent: p.Sent, Rate: int64(p.Rate),
			Optimal: p.Optimal,
		}
		if st.Size > 0 {
			rec.ID = st.ID.String()
		}
		complete := st.Phase == node.Complete && p.Received > 0
		for _, n := range p.Neighbours {
			if n.Active > 0 || complete && n.Received > 0 {
				rec.Sources++
			}
		}
		if complete {
			rec.Rate = int64(float64(p.Received) / max(time.Since(began).Seconds(), 0.001))
		}
		return rec, complete
	})
}

// trackShare tells of a share; one of which something was given is kept.
func trackShare(e *env, s *node.Sharing) *track {
	var last int64
	began := time.Now()
	at := began
	return newTrack(e, func(ended bool) (history.Record, bool) {
		p := s.Progress()
		if ended {
			last, at = 0, began
		}
		rate := float64(p.Sent-last) / max(time.Since(at).Seconds(), 0.001)
		last, at = p.Sent, time.Now()
		return history.Record{
			Kind: history.Share, Name: s.Name, ID: s.Manifest.ID.String(), Size: s.Manifest.Geo.Size, Done: s.Manifest.Geo.Size, Sent: p.Sent,
			Rate: int64(rate), Copies: int(s.Copies.Load()), Optimal: p.CopiesOptimal,
		}, p.Sent > 0
	})
}

// optimal says how far from the best something was, if that is known, behind two spaces.
func optimal(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return fmt.Sprintf("  %.2f x optimal", ratio)
}

// listTransfers prints what this machine transfers, and what it did last.
func listTransfers(e *env) error {
	running, done, err := history.In(e.state).List(time.Now())
	if err != nil {
		return err
	}
	for _, part := range []struct {
		now  bool
		list []history.Record
	}{{true, running}, {false, done}} {
		for i, r := range part.list {
			switch {
			case e.json:
				printJSON(e.stdout, struct {
					V       int    `json:"v"`
					T       string `json:"t"`
					Running bool   `json:"running"`
					history.Record
				}{1, "transfer", part.now, r})
			case part.now:
				fmt.Fprintf(e.stdout, "%-6s  %s\n", title(i, "now"), ofTransfer(r, part.now))
			default:
				fmt.Fprintf(e.stdout, "%-6s  %s  %s ago\n", title(i, "last"), ofTransfer(r, part.now), age(uint64(max(0, time.Since(r.Ended()).Seconds()))))
			}
		}
	}
	return nil
}

// title is what stands before the first of a list.
func title(i int, text string) string {
	if i > 0 {
		return ""
	}
	return text
}

func ofTransfer(r history.Record, now bool) string {
	name := cut(r.Name, 40)
	switch {
	case r.Kind == history.Share:
		text := fmt.Sprintf("share  %s  %s  %s given, %d copies", quote(name), size(r.Size), size(r.Sent), r.Copies)
		if now {
			text += fmt.Sprintf("  %s/s", size(r.Rate))
		}
		if r.Optimal > 0 {
			text += fmt.Sprintf("  the last after %.2f x what one takes at best", r.Optimal)
		}
		return text
	case now && r.Size == 0:
		return fmt.Sprintf("get    %s  not found yet", quote(name))
	case now:
		return fmt.Sprintf("get    %s  %s  %d%%  %s/s  sources %d%s", quote(name), size(r.Size), r.Done*100/r.Size, size(r.Rate), r.Sources, optimal(r.Optimal))
	}
	return fmt.Sprintf("get    %s  %s  in %v (%s/s)  from %s%s", quote(name), size(r.Size),
		time.Duration(r.Seconds*float64(time.Second)).Round(10*time.Millisecond), size(r.Rate), count(r.Sources, "source"), optimal(r.Optimal))
}
