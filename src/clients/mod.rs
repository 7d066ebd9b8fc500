//! The only four ways out: the Kubernetes API, AWS, HTTP and child processes, each with deadlines and error classes.
