"""Stack configuration → one frozen, validated tree. Imports nothing of release/ or components/, which import it."""
