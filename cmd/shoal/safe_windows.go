package main

import "os"

// checkSafe asks only whether the file is there: who may write to it is decided by lists that the system keeps.
func checkSafe(path string) error {
	_, err := os.Stat(path)
	return err
}
