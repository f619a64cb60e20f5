package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rates are the most that is moved, in bytes per second; 0: no limit.
type Rates struct {
	Up   int64 `json:"up"`
	Down int64 `json:"down"`
	// PeerUp and PeerDown are those of any one neighbour.
	PeerUp   int64 `json:"peer_up,omitempty"`
	PeerDown int64 `json:"peer_down,omitempty"`
}

// Limits are rates, and others for parts of the week.
type Limits struct {
	Rates
	Windows []Window `json:"windows,omitempty"`
}

// Window is a part of the day, on some days, with rates of its own.
type Window struct {
	Rates
	Days []time.Weekday `json:"days,omitempty"` // empty: every day
	From int            `json:"from"`           // minutes since midnight
	To   int            `json:"to"`             // not later than From: it ends on the next day
}

// At returns the rates that hold at a moment: those of the first window that it lies in.
func (l Limits) At(now time.Time) Rates {
	for _, w := range l.Windows {
		if w.holds(now) {
			return w.Rates
		}
	}
	return l.Rates
}

func (w Window) holds(now time.Time) bool {
	minute := now.Hour()*60 + now.Minute()
	if w.From < w.To {
		return w.on(now.Weekday()) && minute >= w.From && minute < w.To
	}
	// It goes over midnight: its second part belongs to the day before.
	return w.on(now.Weekday()) && minute >= w.From || w.on((now.Weekday()+6)%7) && minute < w.To
}

func (w Window) on(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, d) }

// Check says what is wrong with limits.
func (l Limits) Check() error {
	all := []Rates{l.Rates}
	for _, w := range l.Windows {
		if w.From < 0 || w.From >= 24*60 || w.To < 0 || w.To > 24*60 {
			return fmt.Errorf("a window from minute %d to %d is not within a day", w.From, w.To)
		}
		for _, d := range w.Days {
			if d < time.Sunday || d > time.Saturday {
				return fmt.Errorf("%d is no day of the week: 0 (Sunday) to 6", int(d))
			}
		}
		all = append(all, w.Rates)
	}
	if len(l.Windows) > 64 {
		return fmt.Errorf("%d windows: at most 64", len(l.Windows))
	}
	for _, r := range all {
		if min(r.Up, r.Down, r.PeerUp, r.PeerDown) < 0 {
			return fmt.Errorf("a rate is below 0")
		}
	}
	return nil
}

// days are the names of the days of the week, from Sunday.
var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseDays reads "mon-fri, sun"; the empty text is every day.
func ParseDays(s string) (out []time.Weekday, err error) {
	for _, part := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == ',' || r == ' ' }) {
		first, last, is := strings.Cut(part, "-")
		if !is {
			last = first
		}
		from, to := slices.Index(days, first), slices.Index(days, last)
		if from < 0 || to < 0 {
			return nil, fmt.Errorf("%q is no day: %s", part, strings.Join(days, " "))
		}
		for d := from; ; d = (d + 1) % 7 {
			out = append(out, time.Weekday(d))
			if d == to {
				break
			}
		}
	}
	return out, nil
}

// ParseClock reads HH:MM as minutes since midnight.
func ParseClock(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of the day: HH:MM", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}
