package schedule

import (
	"slices"
	"testing"
	"time"
)

// strangers makes these identities ones that have never said that they have a piece.
func (d *desk) strangers(identities ...int) {
	for _, i := range identities {
		d.g.who[i].spoke = false
	}
}

// takes lets a neighbour take what it is promised at once, to the end.
func (d *desk) takes(grants ...Grant) {
	for i, g := range grants {
		d.gets(g, uint32(i), OK)
		d.g.Progress(d.now, g.Peer, g.Credit, testPiece)
		d.ends(g, true)
	}
}

// A stranger is tried with one piece while there are others, and is like them as soon as it says that it has it.
func TestAStrangerIsTriedWithOnePiece(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1)
	d.strangers(1)
	d.wants(0, 1)
	grants := d.gives(0, 1, 0)
	d.takes(grants[1])
	d.gives()
	d.takes(grants[0], grants[2])
	d.gives(0, 0)
	d.g.HasNow(0, 1, 7)
	d.gives(1, 1)
}

// Many strangers are tried a few at a time; one that takes long keeps the others out for a while only.
func TestStrangersAreTriedAFewAtATime(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1, 2, 3, 4, 5)
	d.strangers(1, 2, 3, 4, 5)
	d.wants(0, 1, 2, 3, 4, 5)
	grants := d.gives(0, 1, 2, 3)
	for _, g := range grants {
		d.gets(g, 7, OK)
	}
	d.ends(grants[0], true)
	again := d.gives(0)
	d.gets(again[0], 8, OK)
	d.wait(trialTime)
	d.ends(again[0], true)
	d.gives(4)
}

// Where all are strangers each is tried, and one that is alone has as much as anybody.
func TestStrangersAmongThemselves(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1, 2)
	d.strangers(0, 1, 2)
	d.wants(0, 1, 2)
	d.gives(0, 1, 2)
	d = newDesk(t, false, 100, 0, 1)
	d.strangers(0, 1)
	d.wants(0)
	for range 20 {
		d.takes(d.gives(0, 0)...)
		d.wait(muteTime)
	}
}

// Whoever takes and never says that it has anything waits, longer each time, for what would idle otherwise.
func TestWhoNeverSaysThatItHasAnythingWaits(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1)
	d.strangers(1)
	d.wants(1)
	d.g.Want(d.now, 0, 0, WantLater)
	pieces := 0
	for d.now < time.Minute {
		for _, g := range d.g.Plan(d.now) {
			if g.Peer == 1 {
				pieces++
				d.takes(g)
			} else {
				d.g.Pass(d.now, 0, g.Credit, true)
			}
		}
		d.wait(50 * time.Millisecond)
	}
	if pieces < 3 || pieces > 5 {
		t.Errorf("it was given %d pieces in a minute", pieces)
	}
	d.g.HasNow(0, 1, 7)
	d.gives(1, 1)
}

// One that breaks its trial off waits for the next one, though it comes back as another neighbour.
func TestWhoBreaksATrialOffWaits(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1)
	d.strangers(1)
	d.wants(0, 1)
	for _, g := range d.gives(0, 1, 0) {
		d.gets(g, 7, OK)
	}
	d.g.RemovePeer(d.now, 1)
	d.g.AddPeer(1, 1)
	d.wants(1)
	d.gives()
	d.wait(muteWait)
	d.gives(1)
}

// It waits, but is tried again and again, however much others want: its piece may have been lost on its way.
func TestWhoseFirstPieceWasLostIsTriedAgain(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1, 2, 3)
	d.strangers(3)
	pieces := 0
	for d.now < time.Minute {
		d.wants(0, 1, 2, 3)
		for _, g := range d.g.Plan(d.now) {
			d.takes(g)
			if g.Peer == 3 {
				pieces++
			} else {
				d.g.HasNow(0, g.Peer, 7)
			}
			if pieces >= 3 {
				d.g.HasNow(0, 3, 7)
			}
		}
		d.wait(20 * time.Millisecond)
	}
	if pieces < 100 {
		t.Errorf("it had %d pieces", pieces)
	}
}

// One connection that breaks down breaks one trial, and who is alone does not wait at all.
func TestWhatBreaksOffTogetherCountsOnce(t *testing.T) {
	for name, others := range map[string]bool{"alone": false, "beside another": true} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, true, 1000, 0, 1)
			d.strangers(0)
			d.g.SetRTT(0, 250*time.Millisecond)
			d.wants(0)
			grants := d.g.Plan(d.now)
			if len(grants) < 3 {
				t.Fatalf("a far one has %d promises", len(grants))
			}
			for _, g := range grants {
				d.gets(g, uint32(g.Piece), OK)
			}
			d.g.RemovePeer(d.now, 0)
			d.g.AddPeer(0, 0)
			d.wants(0)
			if others {
				d.wants(1)
			}
			for !slices.ContainsFunc(d.g.Plan(d.now), func(g Grant) bool { return g.Peer == 0 }) {
				if d.wait(50 * time.Millisecond); d.now > time.Minute {
					t.Fatal("never")
				}
			}
			if want := map[bool]time.Duration{false: 0, true: muteWait}[others]; d.now != want {
				t.Errorf("it waits %v, want %v", d.now, want)
			}
		})
	}
}

// What fails on our side, or is ended by us, is not the other's trial.
func TestATrialThatWeEndIsNoneThatIsBrokenOff(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1)
	d.strangers(0)
	d.wants(0, 1)
	g := d.gives(0, 1, 1)[0]
	d.gets(g, 7, OK)
	d.ends(g, false)
	g = d.gives(0)[0]
	d.gets(g, 7, OK)
	d.g.Cancelled(d.now, 0, g.Credit)
	d.gives()
}

// Where some have taken a piece and say nothing, the others who never have are tried the more slowly, the more there are of those; whoever speaks is as
// anybody at once.
func TestSilenceOfSomeSlowsTheTrialsOfOthers(t *testing.T) {
	for silent := range 12 {
		others := make([]int, 0, silent+2)
		for i := range silent + 2 {
			others = append(others, i+1)
		}
		d := newDesk(t, false, 100, append([]int{0}, others...)...)
		d.strangers(others...)
		next := func() time.Duration { // until somebody is tried, while the one who has spoken takes all it can get
			from := d.now
			for d.wants(0); d.now-from < time.Minute; d.wait(10 * time.Millisecond) {
				for _, g := range d.g.Plan(d.now) {
					if d.takes(g); g.Peer != 0 {
						return d.now - from
					}
				}
			}
			t.Fatalf("%d are silent: nobody is tried", silent)
			return 0
		}
		for i := range silent {
			d.wants(others[i])
			next()
		}
		d.wait(suspectTime)
		d.wants(others[silent])
		next()
		d.wants(others[silent+1])
		want := time.Duration(0)
		if silent >= maxTrials {
			want = min(time.Duration(silent)*suspectGap, maxGap)
		}
		if got := next(); got < want || got > want+maxTrials*suspectGap {
			t.Errorf("%d are silent: the next one is tried %v after the last one, want about %v", silent, got, want)
		}
		d.g.HasNow(0, others[0], 7)
		d.wants(others[0])
		d.gives(others[0], others[0])
	}
}

// One identity is one that is silent, over however many connections: else a single one could hold up all others.
func TestAnIdentityThatIsSilentCountsOnce(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1, 1, 1, 1, 2, 3)
	d.strangers(1, 2, 3)
	d.wants(0, 1)
	d.takes(d.gives(0, 1, 0)[1])
	d.wait(suspectTime)
	d.wants(2, 3, 4, 5)
	d.takes(d.gives(5)...)
	d.wants(6)
	d.gives(6)
}
