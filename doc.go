// Package shoal has no code: it holds the test of the plan of the house (house_test.go). The program is cmd/shoal.
package shoal
