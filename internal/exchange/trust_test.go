package exchange

import (
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/wire"
)

// full is a network that takes a little, and then nothing for now.
type full struct{ below }

func (*full) Unsent() int { return 1 << 20 }

// Who breaks off what it was given, and says of nothing that it has it, waits while others want something.
func TestWhoBreaksOffIsGivenNothingForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 100)
		b.share()
		g, other := b.sitOver(&full{}), b.sit()
		other.asks(b, 2) // who is alone is given two
		g.asks(b, 2)
		credit := hears[*wire.Credit](g)
		g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: credit.Number, Piece: uint32(*credit.Piece), Request: 1})
		g.settle()
		g.says(&wire.Cancel{Request: 1})
		time.Sleep(50 * time.Millisecond)
		if end := hears[*wire.End](g); end.Reason != wire.ReasonCancelled {
			t.Fatalf("its request ended with %+v", end)
		}
		began := time.Now()
		for {
			other.says(&wire.Want{Channel: 2, On: true}) // its own credits expire, and it is there still
			if _, given := heardA[*wire.Credit](g); given {
				break
			}
			if time.Sleep(50 * time.Millisecond); time.Since(began) > 20*time.Second {
				t.Fatal("it is given nothing any more")
			}
		}
		if waited := time.Since(began); waited < 3*time.Second {
			t.Errorf("it was given something after %v", waited)
		}
	})
}
