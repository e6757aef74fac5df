"""Google Cloud: Firestore, Pub/Sub and Cloud Storage."""
