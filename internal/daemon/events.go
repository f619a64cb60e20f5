package daemon

import "encoding/json"

const (
	// maxEvents bounds the events that a subscriber who was away can be told of.
	maxEvents = 1024
	// maxWaiting bounds the events that wait for a subscriber. One who lets them fill must begin anew.
	maxWaiting = 512
	// MaxSubscribers bounds the subscribers.
	MaxSubscribers = 32
)

// Event is one thing that has happened. Numbers rise by one.
type Event struct {
	Number uint64
	Type   string // transfer, removed, stats, log
	Data   json.RawMessage
}

// Subscription is the place of one who is told of events.
type Subscription struct {
	First  uint64     // the number of the last event that Snapshot contains, or that came before Missed
	Whole  *Snapshot  // nil: Missed has all that was missed
	Missed []Event    // since the number that was asked for
	C      chan Event // closed when the subscriber has been too slow, or the engine has ended
}

// Snapshot is all that events are changes of.
type Snapshot struct {
	Stats     Stats  `json:"stats"`
	Transfers []Row  `json:"transfers"`
	Log       []Line `json:"log"`
}

// hub hands events to subscribers. Only the loop touches it.
type hub struct {
	last uint64
	ring []Event // the newest last
	subs map[*Subscription]bool
}

func (h *hub) publish(kind string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		panic("daemon: " + err.Error())
	}
	h.last++
	e := Event{h.last, kind, b}
	if h.ring = append(h.ring, e); len(h.ring) >= 2*maxEvents {
		h.ring = append(h.ring[:0], h.ring[len(h.ring)-maxEvents:]...)
	}
	for s := range h.subs {
		select {
		case s.C <- e:
		default:
			h.drop(s)
		}
	}
}

// subscribe makes a subscription. After is the last event that the subscriber knows of; known: it knows of one.
func (h *hub) subscribe(after uint64, known bool, whole func() *Snapshot) (*Subscription, bool) {
	if len(h.subs) >= MaxSubscribers {
		return nil, false
	}
	s := &Subscription{First: h.last, C: make(chan Event, maxWaiting)}
	oldest := h.last + 1 - uint64(min(len(h.ring), maxEvents))
	if known && after <= h.last && after+1 >= oldest {
		s.First, s.Missed = after, append([]Event(nil), h.ring[len(h.ring)-int(h.last-after):]...)
	} else {
		s.Whole = whole()
	}
	h.subs[s] = true
	return s, true
}

// drop ends a subscription.
func (h *hub) drop(s *Subscription) {
	if h.subs[s] {
		delete(h.subs, s)
		close(s.C)
	}
}
