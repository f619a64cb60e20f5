package exchange

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// proofOf returns what is sent to prove the parts of a piece.
func (b *table) proofOf(piece uint32) []byte {
	return new(proofs).encoded(bytes.NewReader(b.want), b.m, piece)
}

// sends sends bytes of a request that does not end with them.
func (g *guest) sends(request uint64, b []byte) {
	_, _ = g.conn.Write(append(wire.AppendData(nil, request, len(b)), b...))
}

// lacking is a guest that has nothing.
func (b *table) lacking() (g *guest, channel uint64) {
	b.t.Helper()
	g = b.sit()
	channel = hears[*wire.Open](g).Channel
	g.says(&wire.Info{Channel: channel, Known: true, Size: b.m.Geo.Size, Epoch: 1})
	g.settle()
	return g, channel
}

// told returns which pieces a guest is told of: those that are there, and those that have begun or are lost.
func (g *guest) told() (whole, begun, lost []uint32) {
	for have, ok := heardA[*wire.Have](g); ok; have, ok = heardA[*wire.Have](g) {
		pieces(have, func(p uint32) {
			switch {
			case have.Begun:
				begun = append(begun, p)
			case have.Lost:
				lost = append(lost, p)
			default:
				whole = append(whole, p)
			}
		})
	}
	return whole, begun, lost
}

// passing is a table whose download has begun a piece: a giver has sent its first part, and one that lacks it knows that.
type passing struct {
	*table
	d             *store.Download
	giver, taker  *guest
	from, to      uint64 // channels
	get           *wire.Get
	bytes, proof  []byte
	part, request int
}

func newPassing(t *testing.T) *passing {
	p := &passing{table: newTable(t, 4)}
	p.d = p.fetch(nil)
	p.part = int(p.m.Geo.Part())
	p.giver = p.sit()
	p.from = p.giver.holds(p.table)
	p.taker, p.to = p.lacking()
	p.begins(p.giver, p.from, 1)
	if whole, begun, lost := p.taker.told(); len(whole)+len(lost) > 0 || !slices.Equal(begun, []uint32{p.get.Piece}) {
		t.Fatalf("told %v, %v begun, %v lost, want %d begun", whole, begun, lost, p.get.Piece)
	}
	return p
}

// begins has a giver send the first part of a piece.
func (p *passing) begins(g *guest, channel, credit uint64) {
	p.t.Helper()
	g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit, Insist: true})
	p.get = hears[*wire.Get](g)
	if !p.get.Proof {
		p.t.Fatal("no proof is asked for")
	}
	p.bytes, p.proof = p.bytesOf(p.get.Piece), p.proofOf(p.get.Piece)
	g.says(&wire.Proof{Request: p.get.Request, Parts: p.proof})
	g.sends(p.get.Request, p.bytes[:p.part+5])
}

// beginsAgain has another giver send the first part of a piece, and before that all others for which it is asked.
func (p *passing) beginsAgain(piece uint32) (other *guest) {
	p.t.Helper()
	other = p.sit()
	from := other.holds(p.table)
	for credit := uint64(1); ; credit++ {
		if p.begins(other, from, credit); p.get.Piece == piece {
			return other
		}
		other.gives(p.get.Request, p.bytes[p.part+5:], wire.ReasonOK)
		other.settle()
	}
}

// asks has the taker ask for the piece.
func (p *passing) asks() {
	p.t.Helper()
	p.taker.says(&wire.Want{Channel: p.to, On: true})
	credit := hears[*wire.Credit](p.taker)
	p.request++
	p.taker.says(&wire.Get{Channel: p.to, Epoch: 1, Credit: credit.Number, Request: uint64(p.request), Piece: p.get.Piece, Proof: true}, &wire.Want{Channel: p.to})
	p.taker.settle()
	for other, ok := heardA[*wire.Credit](p.taker); ok; other, ok = heardA[*wire.Credit](p.taker) {
		p.taker.says(&wire.Pass{Channel: p.to, Credit: other.Number})
	}
}

// comes expects bytes of the piece to have come.
func (p *passing) comes(from, to int) {
	p.t.Helper()
	var got []byte
	for data, ok := heardA[part](p.taker); ok; data, ok = heardA[part](p.taker) {
		got = append(got, data.b...)
	}
	if !bytes.Equal(got, p.bytes[from:to]) {
		p.t.Errorf("%d bytes came, want those from %d to %d", len(got), from, to)
	}
}

func TestAPieceIsPassedOnWhileItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPassing(t)
		p.asks()
		if proof := hears[*wire.Proof](p.taker); !bytes.Equal(proof.Parts, p.proof) {
			t.Error("another proof comes than came to us")
		}
		p.comes(0, p.part)
		p.giver.sends(p.get.Request, p.bytes[p.part+5:2*p.part-1])
		p.taker.settle()
		p.comes(0, 0) // no byte that is not verified
		p.giver.sends(p.get.Request, p.bytes[2*p.part-1:3*p.part])
		p.taker.settle()
		p.comes(p.part, 3*p.part)
		p.giver.gives(p.get.Request, p.bytes[3*p.part:], wire.ReasonOK)
		p.taker.settle()
		p.comes(3*p.part, len(p.bytes))
		if end := hears[*wire.End](p.taker); end.Reason != wire.ReasonOK {
			t.Errorf("it ended with %v", end)
		}
		time.Sleep(time.Second)
		if whole, begun, lost := p.taker.told(); !slices.Equal(whole, []uint32{p.get.Piece}) || len(begun)+len(lost) > 0 {
			t.Errorf("told %v, %v begun, %v lost", whole, begun, lost)
		}
		if _, begun, _ := p.giver.told(); len(begun) != 0 {
			t.Error("who sends it is told that it comes")
		}
		p.taker.stays()
	})
}

func TestWhatDoesNotComeAfterAllIsEndedAndSaid(t *testing.T) {
	for name, fail := range map[string]func(p *passing){
		"the giver refuses": func(p *passing) { p.giver.says(&wire.End{Request: p.get.Request, Reason: wire.ReasonRead}) },
		"the giver goes":    func(p *passing) { p.giver.conn.Close() },
		"the giver lies":    func(p *passing) { p.giver.gives(p.get.Request, bytes.Repeat([]byte{7}, 2*p.part), wire.ReasonOK) },
		"the giver closes": func(p *passing) {
			p.giver.says(&wire.Close{Channel: p.from}, &wire.End{Request: p.get.Request, Reason: wire.ReasonCancelled})
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			p := newPassing(t)
			p.asks()
			p.comes(0, p.part)
			fail(p)
			if end := hears[*wire.End](p.taker); end.Request != 1 || end.Reason != wire.ReasonMissing {
				t.Errorf("it ended with %v", end)
			}
			time.Sleep(time.Second)
			if _, _, lost := p.taker.told(); !slices.Equal(lost, []uint32{p.get.Piece}) {
				t.Errorf("%v are said to be lost", lost)
			}
			piece := p.get.Piece
			p.asks() // it may not have heard that yet: that is no offence
			if end := hears[*wire.End](p.taker); end.Request != 2 || end.Reason != wire.ReasonMissing {
				t.Errorf("it ended with %v", end)
			}
			p.comes(0, 0)
			p.taker.stays()

			other := p.beginsAgain(piece)
			other.settle()
			if _, begun, _ := p.taker.told(); !slices.Contains(begun, piece) {
				t.Errorf("%v are said to have begun, and not that which has begun again", begun)
			}
			p.asks()
			p.comes(0, p.part)
			other.gives(p.get.Request, p.bytes[p.part+5:], wire.ReasonOK)
			p.taker.settle()
			p.comes(p.part, len(p.bytes))
		})
	}
}

// A giver that is silent is given up, and may never say so: what waits for it does not.
func TestWhatHasStalledIsLostBeforeItsEndComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPassing(t)
		p.asks()
		p.comes(0, p.part)
		piece := p.get.Piece
		time.Sleep(7 * time.Second)
		if c := hears[*wire.Cancel](p.giver); c.Request != p.get.Request {
			t.Fatalf("%v is cancelled", c)
		}
		if end := hears[*wire.End](p.taker); end.Request != 1 || end.Reason != wire.ReasonMissing {
			t.Errorf("it ended with %v", end)
		}
		if _, _, lost := p.taker.told(); !slices.Equal(lost, []uint32{piece}) {
			t.Errorf("%v are said to be lost", lost)
		}
		p.asks()
		if end := hears[*wire.End](p.taker); end.Request != 2 || end.Reason != wire.ReasonMissing {
			t.Errorf("it ended with %v", end)
		}
		other := p.beginsAgain(piece)
		p.asks()
		p.comes(0, p.part)
		other.sends(p.get.Request, p.bytes[p.part+5:3*p.part]) // it is not collected behind the one that is given up
		p.taker.settle()
		p.comes(p.part, 3*p.part)
	})
}

// What comes sooner from elsewhere goes to those who wait at once, though nothing else is said to them.
func TestASecondCopyServesWhoWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPassing(t)
		p.asks()
		p.comes(0, p.part)
		piece, want := p.get.Piece, p.bytes
		other, third := p.sit(), p.sit()
		from, also := other.holds(p.table), third.holds(p.table)
		for credit := uint64(1); credit <= 2; credit++ {
			p.begins(other, from, credit)
			other.gives(p.get.Request, p.bytes[p.part+5:], wire.ReasonOK)
			other.settle()
		}
		p.begins(third, also, 1) // it is missing still when the second copy is there
		time.Sleep(2 * time.Second)
		third.sends(p.get.Request, p.bytes[p.part+5:p.part+6])
		third.settle()
		time.Sleep(countEvery)
		other.says(&wire.Credit{Channel: from, Epoch: 1, Number: 3, Insist: true})
		get := hears[*wire.Get](other)
		if get.Piece != piece {
			t.Fatalf("%v is asked for, want %d a second time", get, piece)
		}
		p.taker.settle()
		p.bytes = want
		p.comes(0, 0)
		other.gives(get.Request, want, wire.ReasonOK)
		other.settle()
		p.taker.settle()
		p.comes(p.part, len(want))
	})
}

func TestAWrongPartIsFoundWhenItHasCome(t *testing.T) {
	for name, lie := range map[string]func(b *table, g *guest, get *wire.Get){
		"a proof of another piece": func(b *table, g *guest, get *wire.Get) {
			g.says(&wire.Proof{Request: get.Request, Parts: b.proofOf((get.Piece + 1) % 3)})
		},
		"too few": func(b *table, g *guest, get *wire.Get) {
			g.says(&wire.Proof{Request: get.Request, Parts: b.proofOf(get.Piece)[32:]})
		},
		"a part that is wrong": func(b *table, g *guest, get *wire.Get) {
			wrong := bytes.Clone(b.bytesOf(get.Piece)[:b.m.Geo.Part()])
			wrong[77] ^= 1
			g.says(&wire.Proof{Request: get.Request, Parts: b.proofOf(get.Piece)})
			g.sends(get.Request, wrong)
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 4)
			b.fetch(nil)
			liar := b.sit()
			channel := liar.holds(b)
			taker, _ := b.lacking()
			liar.says(&wire.Credit{Channel: channel, Epoch: 1, Number: 1})
			get := hears[*wire.Get](liar)
			lie(b, liar, get)
			if c := hears[*wire.Cancel](liar); c.Request != get.Request {
				t.Errorf("%v is cancelled", c)
			}
			liar.says(&wire.End{Request: get.Request, Reason: wire.ReasonCancelled})
			liar.isCutOff(OffencePiece)
			time.Sleep(time.Second)
			if whole, begun, _ := taker.told(); len(whole)+len(begun) > 0 {
				t.Errorf("%v are said to be there, and %v to come", whole, begun)
			}
		})
	}
}

func TestAProofIsAskedForOnlyWhereItIsOfUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 8)
		b.fetch(nil)
		g, h := b.sit(), b.sit()
		channel, _ := g.holds(b), h.holds(b)
		asks := func(credit uint64) *wire.Get {
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit, Insist: true})
			return hears[*wire.Get](g)
		}
		get := asks(1)
		if get.Proof {
			t.Error("it is asked for, and nobody lacks anything")
		}
		g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
		taker, to := b.lacking()
		taker.says(&wire.Have{Channel: to, Epoch: 1, Runs: []uint32{0, 7}})
		taker.settle()
		for credit := uint64(2); credit <= 8; credit++ {
			get := asks(credit)
			if get.Proof != (get.Piece == 7) {
				t.Errorf("asked for with piece %d: %v", get.Piece, get.Proof)
			}
			g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
			g.settle()
		}
	})
}

// Of a neighbour that passes a piece on we take it, and no more when it has said that it is lost.
func TestWhatANeighbourPassesOnIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		d := b.fetch(nil)
		g, channel := b.lacking()
		credit := uint64(0)
		gives := func() (*wire.Get, bool) {
			time.Sleep(time.Second)
			credit++
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit, Insist: true})
			return heardA[*wire.Get](g)
		}
		g.says(&wire.Have{Channel: channel, Epoch: 1, First: 2, Runs: []uint32{0, 1}, Begun: true})
		get, ok := gives()
		if !ok || get.Piece != 2 {
			t.Fatalf("asked for %v", get)
		}
		g.gives(get.Request, b.bytesOf(2)[:b.m.Geo.Part()], wire.ReasonMissing)
		if get, ok := gives(); ok {
			t.Errorf("asked for %v, which is lost", get)
		}
		g.says(&wire.Have{Channel: channel, Epoch: 1, First: 1, Runs: []uint32{0, 1}, Begun: true}, &wire.Have{Channel: channel, Epoch: 1, First: 1, Runs: []uint32{0, 1}, Lost: true})
		if get, ok := gives(); ok {
			t.Errorf("asked for %v, which is lost", get)
		}
		g.says(&wire.Have{Channel: channel, Epoch: 1, First: 2, Runs: []uint32{0, 1}})
		if get, ok = gives(); !ok || get.Piece != 2 {
			t.Fatalf("asked for %v", get)
		}
		g.gives(get.Request, b.bytesOf(2), wire.ReasonOK)
		g.settle()
		if !d.Have(2) {
			t.Error("it is not there")
		}
		g.stays()
	})
}

// What is said to have begun is bounded like everything else that is said again and again.
func TestWhoSaysWithoutEndWhatHasBegunIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.fetch(nil)
		g, channel := b.lacking()
		m := &wire.Have{Channel: channel, Epoch: 1, Runs: []uint32{0, content.MaxPieces}, Begun: true}
		for range 20 {
			_ = g.says(m)
		}
		g.isCutOff(OffenceFlood)
	})
}

func TestTheProofsThatAreKeptAreBounded(t *testing.T) {
	var p proofs
	for piece := range uint32(3 * maxProofs) {
		p.put(piece, []content.CV{{byte(piece)}})
		if got := p.get(piece); len(p.of) > maxProofs || len(got) != 1 || got[0][0] != byte(piece) {
			t.Fatalf("%d are kept, and of piece %d %v", len(p.of), piece, got)
		}
	}
}
