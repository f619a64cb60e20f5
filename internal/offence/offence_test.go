package offence

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFloodIsCountedWholeAndLoggedOnceAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		book := NewBook(slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			book.Note("mode", "10.0.0.9:1", errors.New("unknown mode"))
		}
		book.Note("type", "10.0.0.9:1", nil)
		if got := strings.Count(out.String(), "\n"); got != 2 {
			t.Errorf("%d lines at once, want one a reason:\n%s", got, &out)
		}
		time.Sleep(Quiet)
		book.Note("mode", "10.0.0.9:1", nil)
		if want := "more=999 total=1001"; !strings.Contains(out.String(), want) {
			t.Errorf("no line with %q:\n%s", want, &out)
		}
		if c := book.Counts(); c["mode"] != 1001 || c["type"] != 1 {
			t.Errorf("counted %v", c)
		}
	})
}
