package node

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shoal/internal/identity"
)

// Limits are changed while bytes move: what would take hours at the first limit is done soon after it is taken away, on either side.
func TestLimitsAreChangedWhileBytesMove(t *testing.T) {
	for _, who := range []string{"giver", "taker"} {
		t.Run(who, func(t *testing.T) {
			l := newLab(t)
			path, want := l.file(64 << 20)
			a, b := l.run(l.machine(identity.MemberRole)), l.run(l.machine(identity.MemberRole))
			slow := func() { a.SetLimits(16<<10, 0) }
			if who == "taker" {
				slow = func() { b.SetLimits(0, 16<<10) }
			}
			slow()
			shared, err := a.Share(t.Context(), path, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // at the limit it takes more than an hour
			defer cancel()
			dir := t.TempDir()
			f := b.NewFetch(FetchRequest{ID: prefixOf(shared), Dir: dir})
			done := make(chan error, 1)
			go func() { _, err := f.Run(ctx); done <- err }()
			began := time.Now()
			for f.Status().Exchange.Received+f.Status().Exchange.Arriving == 0 {
				select {
				case err := <-done:
					t.Fatalf("it is done before anything has come: %v", err)
				case <-time.After(10 * time.Millisecond):
				}
			}
			p := f.Status().Exchange
			if most := int64(time.Since(began).Seconds()*(16<<10)) + 8*64<<10; p.Received > most {
				t.Errorf("%d bytes have come, the limit allows %d", p.Received, most)
			}
			a.SetLimits(0, 0)
			b.SetLimits(0, 0)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); !bytes.Equal(have, want) {
				t.Error("the file differs")
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
