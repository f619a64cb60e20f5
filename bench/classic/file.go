//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// makeFile makes a file of so many random bytes, the same in each run, which lies in the page cache then.
func makeFile(ctx context.Context, path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(ctx, f, size, rand.NewChaCha8([32]byte{})); err != nil {
		return err
	}
	return f.Sync()
}

// fill writes so many bytes of content to f.
func fill(ctx context.Context, f *os.File, size int64, content io.Reader) error {
	buf := make([]byte, 1<<20)
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(left, int64(len(buf)))]
		if _, err := content.Read(b); err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
		left -= int64(len(b))
	}
	return nil
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// sameContent returns an error unless two files have the same bytes.
func sameContent(path1, path2 string) error {
	f1, err := os.Open(path1)
	if err != nil {
		return err
	}
	defer f1.Close()
	f2, err := os.Open(path2)
	if err != nil {
		return err
	}
	defer f2.Close()
	b1, b2 := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(b1)) {
		n1, err1 := io.ReadFull(f1, b1)
		n2, err2 := io.ReadFull(f2, b2)
		if !bytes.Equal(b1[:n1], b2[:n2]) {
			return fmt.Errorf("%s and %s differ after byte %d", path1, path2, at)
		}
		switch {
		case isEnd(err1) && isEnd(err2):
			return nil
		case err1 != nil || err2 != nil:
			return errors.Join(err1, err2)
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
