package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// heartbeat is how often a stream says something when there is nothing to say, so that both ends see whether it lives.
const heartbeat = 15 * time.Second

// events sends a snapshot and then what changes; or, to one who says what it has seen last and was not away for long, all since then.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	after, known := s.lastSeen(r)
	sub, err := s.cfg.Engine.Subscribe(r.Context(), after, known)
	if err != nil {
		return err
	}
	defer s.cfg.Engine.Unsubscribe(sub)
	control := http.NewResponseController(w)
	// The request is read: the stream may last.
	_ = control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	say := func(number uint64, kind string, data []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(writeTime))
		// #nosec G705 -- a stream of events is no page: its type is text/event-stream, with nosniff, and data is JSON
		if _, err := fmt.Fprintf(w, "id: %s-%d\nevent: %s\ndata: %s\n\n", s.epoch, number, kind, data); err != nil {
			return err
		}
		return control.Flush()
	}
	if sub.Whole != nil {
		b, err := json.Marshal(sub.Whole)
		if err != nil {
			return nil
		}
		if say(sub.First, "snapshot", b) != nil {
			return nil
		}
		sub.Whole = nil
	}
	last := sub.First
	for _, e := range sub.Missed {
		if last = e.Number; say(e.Number, e.Type, e.Data) != nil {
			return nil
		}
	}
	sub.Missed = nil
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case e, ok := <-sub.C:
			if !ok {
				_ = say(last, "resync", []byte("{}"))
				return nil
			}
			if last = e.Number; say(e.Number, e.Type, e.Data) != nil {
				return nil
			}
		case <-beat.C:
			_ = control.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := fmt.Fprint(w, ": alive\n\n"); err != nil || control.Flush() != nil {
				return nil
			}
		}
	}
}

// lastSeen reads the number of the last event that the client has seen, if it was one of this process.
func (s *Server) lastSeen(r *http.Request) (number uint64, known bool) {
	epoch, text, _ := strings.Cut(r.Header.Get("Last-Event-ID"), "-")
	number, err := strconv.ParseUint(text, 10, 64)
	return number, err == nil && epoch == s.epoch
}
