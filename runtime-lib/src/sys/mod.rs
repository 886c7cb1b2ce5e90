//! The system calls that nix lacks, each as one safe function. The only module with `unsafe`;
//! it decides nothing and knows nothing of containers.
