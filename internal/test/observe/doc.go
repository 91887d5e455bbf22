// Package observe tests what is shipped for monitoring against the tools that read it: alert rules
// and a dashboard against Prometheus' own engine, and the pages against a browser.
//
// It is a module of its own: who builds or imports the program gets none of these tools.
package observe
