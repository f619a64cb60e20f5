package daemon

// historyLen is over how many seconds the speed of a transfer is remembered.
const historyLen = 300

// history is the speed of a transfer, second by second. It takes memory only once something has moved.
type history struct {
	ring  []sample
	next  int
	quiet int // seconds without anything
}

// sample is one second.
type sample struct{ down, up float32 }

// add takes the speed of the second that has passed.
func (h *history) add(down, up float64) {
	if down == 0 && up == 0 {
		if h.quiet++; h.ring == nil || h.quiet >= historyLen {
			h.ring, h.next = nil, 0
			return
		}
	} else {
		h.quiet = 0
	}
	if h.ring == nil {
		h.ring = make([]sample, 0, historyLen)
	}
	s := sample{float32(down), float32(up)}
	if len(h.ring) < historyLen {
		h.ring = append(h.ring, s)
		return
	}
	h.ring[h.next] = s
	h.next = (h.next + 1) % historyLen
}

// Speed is a history as others see it: bytes per second, the last one now.
type Speed struct {
	Down []int64 `json:"down"`
	Up   []int64 `json:"up"`
}

func (h *history) speed() Speed {
	s := Speed{Down: []int64{}, Up: []int64{}}
	for i := range h.ring {
		v := h.ring[(h.next+i)%len(h.ring)]
		s.Down, s.Up = append(s.Down, int64(v.down)), append(s.Up, int64(v.up))
	}
	return s
}
