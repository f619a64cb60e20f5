package schedule

import (
	"slices"
	"time"
)

const (
	// muteTime is how long, beyond two round trips, one may have taken pieces and say of none that it has it, before it is given only what would idle
	// otherwise: one piece to begin with, maxOwed once it has spoken. Those who are honest say so after newsWait at the latest.
	muteTime = 2 * newsWait
	// muteWait is how long one that has taken a piece, and has never said that it has any, waits for the next one, doubling with each; so does one that is
	// mute, and one to whom a piece did not go to its end. As soon as it says that it has one it waits no more.
	muteWait = 8 * time.Second
	// maxTrials is how many promises there may be at once, while others have spoken, to those who never have; one each. One that takes longer than
	// trialTime counts no more, lest slow ones keep others out.
	maxTrials = 3
	trialTime = 200 * time.Millisecond
	// suspectTime is how long, beyond two round trips, one may have a piece and say nothing, before it counts against all who have never spoken: for each such one
	// the next trial comes suspectGap after the last one, from the third on, at most maxGap. Who is honest is not held up for long: it needs one piece, of anybody.
	suspectTime = newsWait / 2
	suspectGap  = 250 * time.Millisecond
	maxGap      = 2 * time.Second
)

// trust is what a giver makes of those who take pieces. Whoever has a piece says so: who never does throws them away, or keeps them to itself, and may be
// many. It is tried with one piece while there are others.
type trust struct {
	now      time.Duration
	alone    bool // nobody else wants anything
	spoken   bool // there is one who has said that it has a piece
	trials   int
	suspects int           // identities that have taken a piece and have not said anything, ever; as many as matter
	tried    time.Duration // when a stranger was promised one last
}

func (g *Giver) trust(now time.Duration) trust {
	t := trust{now: now, alone: true, tried: g.tried}
	var one *who
	var silent [maxGap / suspectGap]*who
	for _, l := range g.peers {
		if l == nil || len(l.wants)+len(l.later)+len(l.promises) == 0 {
			continue
		}
		t.alone = t.alone && (one == nil || one == l.who)
		one = l.who
		switch {
		case l.spoke:
			t.spoken = true
		default:
			if t.suspects < len(silent) && l.quiet > 0 && now-l.took >= suspectTime+2*l.rtt && !slices.Contains(silent[:t.suspects], l.who) {
				silent[t.suspects] = l.who
				t.suspects++
			}
			for _, p := range l.promises {
				if now-p.at < trialTime {
					t.trials++
				}
			}
		}
	}
	return t
}

// passes says whether a leecher may be promised something like any other.
func (t trust) passes(l *leecher) bool {
	switch {
	case t.alone:
		return true
	case l.spoke:
		return t.now >= l.held && !t.mute(l)
	}
	// After a piece of which it says nothing it is held for a while, and then tried again: the piece may have been lost on its way.
	return t.now >= l.held && l.out == 0 && (!t.spoken || t.trials < maxTrials && t.now-t.tried >= t.gap())
}

// gap returns how long after a trial the next one comes.
func (t trust) gap() time.Duration {
	if t.suspects < maxTrials {
		return 0
	}
	return time.Duration(t.suspects) * suspectGap
}

// mute says whether a leecher has taken pieces for a while and said of none that it has it.
func (t trust) mute(l *leecher) bool {
	owes := l.quiet >= maxOwed || l.quiet > 0 && !l.spoke
	return !t.alone && owes && t.now-l.took >= muteTime+2*l.rtt
}

// last says whether a leecher may have what would idle otherwise.
func (t trust) last(l *leecher) bool { return t.now >= l.held && t.mute(l) && l.out == 0 }

// keeps takes in that a piece has gone, of which it has not said that it has it. The more of them, the longer it waits for the next one.
func (g *Giver) keeps(now time.Duration, l *leecher) {
	if l.quiet++; l.quiet == 1 {
		l.took = now
	}
	if t := g.trust(now); !t.alone && (!l.spoke || t.mute(l)) {
		l.hold(now, l.quiet)
	}
}

// breaks takes in that one broke a transfer off. What breaks off together counts once, and does not count for one who has said that it has a piece.
func (l *leecher) breaks(now time.Duration) {
	if l.spoke || now < l.held {
		return
	}
	l.broke++
	l.hold(now, l.broke)
}

func (l *leecher) hold(now time.Duration, times int) {
	l.held = now + min(muteWait<<min(times-1, 7), maxPause)
}
